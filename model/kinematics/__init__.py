"""The physics of a track: geometry, features, filters and baselines. It uses numpy only and contains no network.

geo                 distances and directions on the sphere and on the local plane
motion              the motion model that every forecast starts from, updated one ping at a time
features            the network's inputs for a ping
queries             the network's inputs for a question, and the physics under the answer
baselines           stay, constant velocity, damped velocity, Kalman filter; fills across a gap
filters             Kalman filters behind one interface; imm holds the interacting multiple model
smoother            the Rauch-Tung-Striebel smoother across gaps
lateness            how precisely the time of the next ping is known
calibration_terms   the inputs of the calibration factor
map_cells           map cells around a position
answer_bounds       constants that the heads share with their compiled twins
"""
