"""The operator: Tunnels and Peers as Kubernetes resources, handed over through every pod's life.

resources/      the two kinds as typed models; CRDs, roles and the reference are generated from them
membership      which Peers of a Tunnel are served, at which addresses
documents       what the pods of a Tunnel are given: the configuration and the state, as JSON lines
container       the tunnel's container, in a gateway's pod and beside anybody's app
workload        what runs: Deployment, Service, disruption budget, network policy
injection/      the webhook that puts the tunnel into other people's pods
upgrades        another image for it there, one pod at a time
roles           who is active and what to do next: the table of the handover
status          what is said about it: conditions
store           the one module that talks to the API server
sidecars        the one module that talks to the pods' control API
reconciler      one worker for each Tunnel: reads, asks the pure modules above, writes
handlers        kopf: events in, dirty Tunnels out
"""
