"""What is chosen of a batch."""

import torch

from segpipe.patches.upload import chosen, upload


def test_the_chosen_patches_come_in_order_and_the_whole_batch_as_it_is() -> None:
    batch = torch.arange(24.0).reshape(4, 3, 2)
    assert torch.equal(chosen(batch, [1, 3]), batch[[1, 3]])
    assert chosen(batch, [0, 1, 2, 3]) is batch


def test_what_goes_to_the_cpu_stays() -> None:
    values = torch.arange(3)
    assert upload(values, torch.device("cpu")) is values
