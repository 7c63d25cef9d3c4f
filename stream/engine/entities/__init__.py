"""The entities that this process holds: in memory by partition, and as the bytes that the store keeps of each.

table           EntityTable: all entities in memory, by partition, in columns
shard           the entities of one partition, and what was counted of them
predictors      the networks by which they are followed: one, and two while weights are changed
restore         loads stored entities: the track as it is, the model state if it fits, otherwise rebuilt
snapshot        makes one partition's checkpoint, leg by leg, while the engine works on
stored_entity   the bytes that the store keeps of one entity
quarantine      entities that were given up, and until when
placement       notices entities that lie where murmur2 does not put them
quota           limits how many entities a partition may have in the store
"""
