"""Topic trees on the ring (Scribe): multicast and anycast by topic, direct messages by node.

Counterpart of Go's proto/scribe and proto/scribe/topic.

    wire     packets
    topic    one topic's neighbours      trees    who becomes one, who is gone      parking    what
    has nowhere to go yet
    overlay  the shell: lock, beat, messages
"""
