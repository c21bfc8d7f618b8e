"""cloud/iam.py: the policies against the requests that the job and the commands really make."""
from cloud_fixtures import *
def test_x(recorded):
    import time
    for c in sorted(recorded.calls, key=str):
        print(c)
