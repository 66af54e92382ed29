"""The object store: immutable objects under unique keys, in one bucket, verified whenever they are read.

Services use `BlobStore` of `store`. A `BlobStore` rests on a `Bucket`, which `port` defines, and `minio_bucket` is a
bucket at any S3 server. Only this package imports `minio`.
"""
