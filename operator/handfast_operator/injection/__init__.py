"""The tunnel as a native sidecar in anyone's pods.

refusals    which pods it is not put into, and the sentence that says what to do
pod         a pod with it, from a pod without
origin      what a pod is made by, and how many of it there are to be
others      who has the same Tunnel besides
shape       what is read of a review, and of which kind it has to be
review      what the API server asks and is answered
certificate the injector's own, kept in a Secret, and what the API server trusts it by
server      the HTTPS server of `handfast-operator inject`
snippet     the same container as YAML, for those who want no webhook
"""
