"""Several devices: the mesh, which array lies where, and what frames on different devices tell each other."""
