"""The index of what is here, for peers that query: how it is kept, and how a query is answered from it."""
