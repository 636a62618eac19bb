"""The ring (Pastry): routing by id, sessions with the nodes that routing needs, their upkeep.

    maintenance  which nodes are in the ring: core      candidates  which nodes are dialled
    table, routing  where a message goes next: core     peer, actions  records
    sessions     dials, introductions, closes           overlay     the shell: threads, boot, leave
"""
