"""Data: from a folder of posed images to batches of rays.

What reads, checks and places a scene, and what draws pixels from its images and makes their rays, belongs here. It speaks
nerfstudio's language (parsers, cameras, data managers) and knows no model.

```
auto -> {transforms, colmap} -> views -> geometry      what a folder holds, and where the unit cube lies in it
poses                                                  what all cameras look at, and which way is up
manager -> {images, pixels, rays}                      images as bytes, pixels drawn from them, their rays
checks                                                 one sentence for each kind of bad input
```

Nothing is imported here: nerfstudio loads :mod:`ngp_method.data.auto` while its own data managers are still being
imported, so the parser may not pull in :mod:`ngp_method.data.manager`.
"""
