"""Read a newsgroup with nntplib. Nothing in here knows of outgate."""

import sys
import warnings

warnings.simplefilter("ignore", DeprecationWarning)  # nntplib says so from 3.11 on
import nntplib  # noqa: E402

news = nntplib.NNTP(sys.argv[1], int(sys.argv[2]), timeout=10)
_, count, first, last, name = news.group("demo.sockets")
_, article = news.article(str(last))
print(f"{name}, {count} article:", article.lines[-1].decode())
news.quit()
