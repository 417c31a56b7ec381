"""The embedded faces end to end: find the groups, balance them, look at pictures of both models.

    python examples/01_embedded_faces.py

Cartoon faces under four prompts and a small diffusion model that was trained on them come with the
package. A prompt shows mostly women or mostly men; nothing that finds or balances the groups is
told so. A classifier says at the end who is on the pictures. Interrupted, the same command goes on.
"""

import argparse

import invdiff

# Enough to see that everything works; the figures of such a run show nothing.
QUICK = {
    "processes": 1,
    "discover": {"images_per_prompt": 60},
    "train": {"steps": 10},
    "calibrate": {"images_per_prompt": 4},
    "sample": {"images_per_prompt": 4, "guidance_scales": [2.5], "steps": 4},
}


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--out", default="runs/faces", help="the run folder")
    asked.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    options = asked.parse_args()

    if options.quick:
        run = invdiff.Run(options.out, QUICK, preset="faces-quick")
    else:
        run = invdiff.Run(options.out, preset="faces")

    run.discover()  # the max step: which pictures does the model favour, under which prompt?
    print(run.groups)

    run.train()  # the min step: a LoRA under which these groups are even
    run.sample()  # pictures from the same seeds, without and with it
    run.evaluate()
    print(run.metrics)

    run.report()
    print(run)


if __name__ == "__main__":  # worker processes import this file
    main()
