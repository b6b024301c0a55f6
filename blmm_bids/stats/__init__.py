"""Mixed models at many voxels: arrays in, arrays out."""
