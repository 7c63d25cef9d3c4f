"""Whether a partition is ours, and whether its log is still the one that was answered.

ownership       gains and loses partitions, and takes them over again when their states may be wrong
takeover        makes a partition ours: membership check, fence, claim, replay
takeover_plan   where a takeover starts, and whether the log is still the one that was answered
continuity      whether new records follow those that were taken
"""
