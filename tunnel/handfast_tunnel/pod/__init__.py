"""A tunnel as a pod's container: configured by mounted files and the control API, owned by its role."""
