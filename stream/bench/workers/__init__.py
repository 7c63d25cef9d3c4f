"""The benchmarks of workers, on a broker and a store.

worker     one worker drains a filled topic; profile says where its CPU time goes
latency    from when a ping is due until its forecast is in a subscriber
soak       what grows in a worker that runs for long
"""
