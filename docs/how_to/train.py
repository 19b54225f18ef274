"""Trains on all ranks; killed and started again, it ends with the weights of an undisturbed run.

torchrun --nproc_per_node 2 docs/how_to/train.py unified.zarr checkpoint.pt 3
"""

import sys
from pathlib import Path

import torch
from torch import distributed, nn

from pipeline.loaders import FaceDataset, FaceLoader

store, checkpoint, epochs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
distributed.init_process_group("gloo")
loader = FaceLoader(FaceDataset(store, "train", ("neutral_mm", "shape")), batch_size=4)
torch.manual_seed(0)
vertices = loader.dataset.store.model["n_vertices"]
network = nn.parallel.DistributedDataParallel(nn.Linear(3 * vertices, 300))
optimiser = torch.optim.AdamW(network.parameters(), 1e-4)
if checkpoint.exists():
    saved = torch.load(checkpoint, weights_only=True)
    network.load_state_dict(saved["network"])
    optimiser.load_state_dict(saved["optimiser"])
    loader.load_state_dict(saved["loader"])
while loader.epoch < epochs:
    for batch in loader:
        found = network(batch["neutral_mm"].flatten(1) / 100)
        loss = nn.functional.mse_loss(found, batch["shape"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if distributed.get_rank() == 0:  # the position is the same on every rank
            parts = {"network": network, "optimiser": optimiser, "loader": loader}
            torch.save({k: v.state_dict() for k, v in parts.items()}, f"{checkpoint}.new")
            Path(f"{checkpoint}.new").replace(checkpoint)
distributed.destroy_process_group()
