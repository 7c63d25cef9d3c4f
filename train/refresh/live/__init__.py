"""The refresh beside a running fleet: from the topic of pings and the registry to a canary, once or as a service.

cli        `pathcast train refresh --dir`
service    one round, and rounds until it has to stop
rounds     the folder of each round, from which a killed one goes on
pings      the fleet's newest days as a Parquet file, from the archive and the topic
champion   what serves now, as a folder
outcome    publishes a challenger and makes it a canary, or notes why not
"""
