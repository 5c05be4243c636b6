"""Models behind a server that speaks OpenAI's protocol: requests, replies, servers, dispatch."""
