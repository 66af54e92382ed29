"""The object store: immutable objects under unique keys, in one bucket, verified whenever they are read.

`BlobStore` in `store` is what services use. It rests on a `Bucket`, which `port` defines: `minio_bucket` is one at any
S3 server, `memory_bucket` one in memory, and `faulty_bucket` spoils another on purpose for simulations. Only this
package imports `minio`.
"""
