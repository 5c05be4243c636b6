"""Training data from runs: answers are selected, checked, and packed into pools.

In the order in which data is made:

- `sample`: runs with several answers a problem. `answers`: the files of answers between the steps.
- `select`: which answers are kept. `decontaminate`: drops problems of the test sets.
- `lint`, `statistics`: what looks wrong; what was packed.
- `encode`, `pack`: answers become token ids in Parquet. `pools`: reading them back, verified.
- `build`: all steps from one recipe. Start here.
"""
