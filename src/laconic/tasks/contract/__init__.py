"""What a task is given and what it may use.

- `task`: the decorator, `Task`, and tasks read from a file. Start here.
- `dataset`: problem sets as rows of a local file or of a Hub data set.
- `prompts`: the words around a problem.
- `exam`: what a program must pass, kept as the text of a reference answer.
- `arithmetic`: the lab's problems.
"""
