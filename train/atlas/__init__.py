"""Trains the head with which a model reads an atlas: how much to believe of what a fleet has shown.

examples    forecasts of a model beside what an atlas of the hours before them says, and what then happened
fitting     trains the head on examples of several regions; the rest of the weights stays as it is
model_card  what the card of such weights says
cli         `pathcast fit-atlas`
"""
