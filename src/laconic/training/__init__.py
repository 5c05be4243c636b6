"""Training on a mixture whose weights follow measured accuracy and length.

- `train`: a whole training, resumable. Start here.
- `recipe`, `section`, `presets`: what to train and how.
- `prepare`, `rows`, `problems`, `sampler`, `mixture`: data and the order in which it is drawn.
- `controllers`, `bounds`, `mixture_state`, `excess_loss`: how the weights move.
- `objective`, `loop`, `trainer`, `supervised`, `preference`, `reinforcement`: the trainers.
- `dev`, `evaluators`, `serving`, `references`: measuring on the dev problems.
- `selection`, `export`: choosing and writing the model.
- `run_folder`, `distributed`, `cost`, `rounding`, `adapters`: folders, processes, cost, precision.
- `wording`: prompts of training rows.
"""
