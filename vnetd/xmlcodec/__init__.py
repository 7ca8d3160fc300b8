"""Untrusted documents: libvirt XML and native JSON into model values, and back."""
