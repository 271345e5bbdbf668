"""Reading media files: what they are, what their tags say, and pictures of them.

`reader` is the only module that the engine imports besides `facts` and `types`. It runs the other ones in a child process,
because they hand files that anybody may have made to large native libraries: a file that crashes, hangs or bloats its
reader ends that child and nothing else. This file imports nothing, so that the child loads no more than it needs.
"""
