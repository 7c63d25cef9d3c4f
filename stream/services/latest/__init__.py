"""`pathcast latest`: a compacted topic with the newest forecast of each entity, for maps and for who starts late.

entities        what is kept of each entity: its newest forecast, and its newest gap fill
unit            folds forecasts and gap fills, and says what to publish: updates and tombstones
map_view        what a map draws of a forecast
taking_over     makes the unit again from the topic itself
"""
