"""The live map (`pathcast map`): a page that draws a fleet, and the server that tells it what to draw. It runs beside
the workers, reads topics without a group, and writes nothing.

cli        the options of `pathcast map`
service    starts the parts, and stops them
handlers   answers each request
routes     what there is to ask
access     the token as a cookie, and what the page may load
metrics    the metrics of this process
fleet      what is known of the fleet, in memory: no Kafka, no HTTP, no clock
sources    topics, ends of logs and atlases, read into it
streaming  what one page is told
page       the page: HTML and scripts
"""
