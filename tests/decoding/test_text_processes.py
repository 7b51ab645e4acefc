"""A text read by two processes, over gloo on this machine: the table of one; and what is said when one of them dies."""

import subprocess
import sys
from dataclasses import replace

import pytest
from torch import distributed
from transformers import GPT2LMHeadModel

from conftest import SOURCE
from layer_decoding.decoding.text.means import measure_text
from layer_decoding.decoding.text.processes import Processes
from layer_decoding.errors import LayerDecodingError

TEXTS = [(150, 32, True), (150, 20, False), (12, 32, True)]  # tokens, window, bias; the last is a window for one alone
SECOND = """
import ast, os, sys
import torch
from transformers import GPT2LMHeadModel
from layer_decoding.decoding.text.means import measure_text
from layer_decoding.decoding.text.processes import Processes
folder, port, texts = sys.argv[1:]
torch.set_num_threads(1)
processes = Processes(torch.distributed.TCPStore("127.0.0.1", int(port), 2), 1, 2)
model = GPT2LMHeadModel.from_pretrained(folder).eval()
for ids, window, bias in ast.literal_eval(texts):
    measure_text(model, ids, window=window, bias=bias, processes=processes)
os._exit(9)
"""


def test_two_processes_say_what_one_says_and_one_left_alone_says_so(tiny_folder):
    texts = [([7 * place * place % 97 for place in range(count)], *options) for count, *options in TEXTS]
    store = distributed.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    second = subprocess.Popen([sys.executable, "-c", SECOND, str(tiny_folder), str(store.port), str(texts)], cwd=SOURCE)
    try:
        model, processes = GPT2LMHeadModel.from_pretrained(tiny_folder).eval(), Processes(store, 0, 2)
        for ids, window, bias in texts:
            seen = []

            def on_step(read, _, seen=seen):
                seen.append(read)

            options = {"window": window, "bias": bias}
            ours = measure_text(model, ids, **options, processes=processes, on_step=on_step)
            alone = measure_text(model, ids, **options)
            assert replace(ours, layers=()) == replace(alone, layers=())
            for layer, expected in zip(ours.layers, alone.layers, strict=True):
                assert layer.means == pytest.approx(expected.means, rel=1e-12)
                assert not bias or layer.bias_bits == pytest.approx(expected.bias_bits, rel=1e-9, abs=1e-12)
                assert (layer.agreeing_share, layer.correct_share) == (expected.agreeing_share, expected.correct_share)
            assert seen == sorted(seen)
            assert seen[-1] <= len(ids)  # of the text: what the other has read is not known
        assert second.wait() == 9
        with pytest.raises(LayerDecodingError, match="Another of the 2 processes that read the text has died"):
            measure_text(model, ids, processes=processes)
    finally:
        second.kill()
        second.wait()
        if distributed.is_initialized():
            distributed.destroy_process_group()
