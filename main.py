"""Trains and evaluates a U-Net, and segments images with it.

python main.py --config=configs/isbi.py --config.steps=2000
python main.py --mode=evaluate --workdir=runs/isbi
python main.py --mode=predict --workdir=runs/isbi --input=images/ --output=labels/
"""

from unet_jax.__main__ import main

if __name__ == "__main__":
    main()
