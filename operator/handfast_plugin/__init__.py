"""`kubectl handfast`: what people see of Tunnels and Peers, and what they do with them.

`api` alone talks to the API server; what is shown, and what is found wrong, is made by pure functions.
Nothing here imports the operator, and the client library is imported only when a cluster is asked: completion
and help come at once.
"""
