"""Answers from the states that workers store, and from tracks that are sent.

states      finds an entity's stored record
networks    the weights that states were made by
atlases     the atlas that a state's last ping asks
forecasts   the forecasts of stored states: pure, on a thread of its own
questions   gathers questions, so that many cost little more than one
rendering   numbers as workers publish them
tracks      the gaps of a track that was sent, and a track in the form of a stored one
"""
