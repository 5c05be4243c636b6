"""The study of training: TL;DR and what it is compared with, on several seeds.

- `study`: everything that is measured. Start here. `arms`: the ways to train.
- `data`: pools and references of a seed. `work`: one piece of work, done once.
- `page`, `pictures`: the page that it writes.
"""
