"""Judges arrivals on a recording, as agencies do: what happened, what riders ask, what simple methods answer.

    truth     when each trip truly reached its stops, by the whole of its pings
    methods   what the schedule, the present delay, and the times of earlier buses say
    scores    the benchmark of TransitApp, errors, what intervals hold, and paired differences
    judging   puts the same questions to the predictor and to the methods

Pure: `pathcast evaluate --task transit` reads the recording, and prints.
"""
