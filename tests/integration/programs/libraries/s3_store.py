"""Keep objects in S3 with boto3: python s3_store.py URL ACCESS SECRET."""

import hashlib
import io
import sys
import uuid

import boto3
import boto3.s3.transfer
import botocore.config

url, access, secret = sys.argv[1:]
config = botocore.config.Config(connect_timeout=10, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
s3 = boto3.client(
    "s3",
    endpoint_url=url,
    aws_access_key_id=access,
    aws_secret_access_key=secret,
    region_name="us-east-1",
    config=config,
)
bucket = f"bucket-{uuid.uuid4().hex}"
s3.create_bucket(Bucket=bucket)
s3.put_object(Bucket=bucket, Key="small", Body=b"hello")
data = hashlib.shake_128(b"s3").digest(12 << 20)
several = boto3.s3.transfer.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)  # over threads
s3.upload_fileobj(io.BytesIO(data), bucket, "large", Config=several)
print(sorted((each["Key"], each["Size"]) for each in s3.list_objects_v2(Bucket=bucket)["Contents"]))
print(s3.get_object(Bucket=bucket, Key="small")["Body"].read().decode())
back = io.BytesIO()
s3.download_fileobj(bucket, "large", back, Config=several)
print(back.getvalue() == data)
try:
    s3.get_object(Bucket=bucket, Key="nothing")
except s3.exceptions.NoSuchKey as error:
    print(type(error).__name__)
