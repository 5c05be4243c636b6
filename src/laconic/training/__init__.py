"""Training on a mixture whose weights follow measured accuracy and length.

- `train`: a whole training, resumable. Start here.
- `recipe`, `section`, `presets`: what to train and how. `prepare`: opens and checks all of it.
- `data`: the rows that are trained on, and their order.
- `objectives`, `rewards`, `controllers`: plug-ins. What a step makes more likely, what an answer is
  worth, and how the weights of the mixture move.
- `loop`, `trainer`, `answer_trainer`: TRL's trainers with the mixture's order and our checkpoints.
- `mixture_state`, `bounds`, `excess_loss`: the measurements, and where the mixture stands.
- `dev`, `evaluators`, `serving`, `references`: measuring on the dev problems.
- `selection`, `export`, `rounding`: choosing a checkpoint and writing it as a model.
- `run_folder`, `distributed`, `cost`, `adapters`: folders, processes, cost, LoRA targets.
"""
