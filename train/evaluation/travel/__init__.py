"""When something arrives: how long whole trips take, and when an entity that is on its way is at a place.

travel_times   errors of travel times: origin, destination and departure are given
trips          the trips of which they are asked
like_trips     the travel times of like trips, as the fleet itself says what makes trips alike
arrivals       errors of arrivals, which are asked at each anchor on the way
"""
