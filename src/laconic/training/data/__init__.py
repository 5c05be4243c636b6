"""What a training reads, and the order in which it reads it.

- `rows`: packed pools as one data set. `problems`: problems that the model answers in training.
- `prompt_check`: whether the training questions are put in the words of the dev problems.
- `mixture`: pools, their weights and the schedule of the weights.
- `sampler`: the order of the rows, as a function of pools, seed and schedule.
"""
