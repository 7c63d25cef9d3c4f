"""One file per format that `pathcast train --data` reads; `train.sources` says which takes what."""
