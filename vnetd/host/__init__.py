"""The seam between deciding and acting: narrow protocols of all that vnetd needs from its host."""
