"""The live map (`pathcast map`, `pathcast serve --map`): a page that draws a fleet, and what tells it what to draw. It
runs beside the workers, reads topics without a group, and writes nothing.

cli        the options of `pathcast map`
service    the parts of the map, and its metrics
handlers   answers each request
routes     what there is to ask
access     the token as a cookie, and what the page may load
fleet      what is known of the fleet, in memory: no Kafka, no HTTP, no clock
sources    topics, ends of logs and atlases, read into it
streaming  what one page is told
page       the page: HTML and scripts
"""
