# expect: TX0131
# try: decorated function
import texpr as te

te.axes(i="N")  # here
