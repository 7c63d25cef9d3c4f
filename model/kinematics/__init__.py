"""The physics of a track: geometry, features, filters, baselines. numpy only; no network.

geo          distances and directions on the sphere and on the local plane
motion       the law of motion that every forecast starts from, folded ping by ping
features     what the network sees of a ping
baselines    stay, constant velocity, damped velocity, dead reckoning
filters      Kalman filters; imm has the interacting multiple model
smoother     the Rauch-Tung-Striebel smoother across gaps
lateness     how surely the time of the next ping is known
"""
