"""How homes reach each other: identity, signed messages, the local network, signalling, WebRTC, links."""
