"""The dialogs: setting up, shares, friends, pairings, options."""
