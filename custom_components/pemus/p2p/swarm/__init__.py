"""The swarm: one libtorrent session that seeds shared files to those who hold a ticket, and fetches remote ones.

`session` alone speaks to libtorrent. `hashing`, `seeds` and `tickets` are the owner's side; `download`, `downloads` and
`cache` the receiver's; `tracker` introduces WebRTC peers over a channel that is there already. Nothing in here is
imported where libtorrent is missing.
"""
