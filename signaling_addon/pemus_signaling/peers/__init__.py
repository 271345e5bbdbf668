"""PeerServer's protocol: messages from one peer to another."""
