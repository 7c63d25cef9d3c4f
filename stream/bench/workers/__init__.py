"""The benchmarks of workers, on a broker and a store.

worker     one worker drains a filled topic; profile says where its CPU time goes
step       the bare model step on the same batches, without broker and store
latency    from when a ping is due until its forecast is in a subscriber; latency_cli has its options
scale      the cost of more entities, and of more workers
soak       what grows in a worker that runs for long
takeover   how long the successor of a worker that died needs
"""
