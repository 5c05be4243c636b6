"""The client of OpenAI-compatible servers: requests, retries, several servers at once.

- `protocol`: what a server is asked and what it answers.
- `request`, `dispatch`, `servers`: one request, many requests, the servers they go to.
- `identity`, `weights`: which model a server says that it serves; loading new weights into it.
"""
