"""Know the suffixes under which anybody can have a name.

A short list and no copy of the Public Suffix List, which changes weekly: a warning that is sometimes missing beats data
that is sometimes stale. Suffixes of one's own (``*.corp``, ``*.internal``, ``*.svc.cluster.local``) are never in it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["is_public", "is_top"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Generic top-level domains that are in wide use, of the root zone's well over a thousand.
_GENERIC: Final = _words("""
    com net org info biz name pro edu gov mil int arpa aero asia cat coop jobs mobi museum post tel travel xxx
    academy agency app art blog bot business cafe capital care center chat city click cloud club codes community
    company computer consulting cool coupons dance data date design dev digital direct directory domains download
    education email energy engineer engineering enterprises events exchange expert finance financial fit foundation
    fun fund fyi gallery games global gmbh group guide guru health help host hosting house icu inc industries ink
    institute international land legal life link live llc loan lol ltd management market marketing media money mov
    network new news ninja one online ooo onl partners party photo photos pics place plus pub quest racing red rent
    report review rip rocks run sale school science services sh shop show site social software solutions space store
    stream studio style sucks support surf systems tax team tech technology tips today tools top tours town toys trade
    trading training tube uno ventures video vip wang watch web website wiki win wine work works world wtf xyz zip
    zone
""")
#: Top-level domains of countries, as delegated in the root zone (ISO 3166, and ac, eu, su, uk).
_COUNTRIES: Final = _words("""
    ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bv bw by bz ca cc
    cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb
    gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke
    kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu
    mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw
    sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz
    ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw
""")
#: Second levels that registries of countries use like generic ones.
_SECOND: Final = _words("ac co com edu gob gouv gov govt go ltd mil ne net nom or org plc sch")
#: Suffixes that providers give to whoever asks. A private address behind one is common (a database of one's own), so
#: an exception is only warned about.
_HOSTED: Final = _words("""
    amazonaws.com appspot.com azure.com azureedge.net azurewebsites.net cloudapp.net cloudfront.net
    cloudfunctions.net duckdns.org dyndns.org elasticbeanstalk.com firebaseapp.com fly.dev github.io gitlab.io
    herokuapp.com netlify.app ngrok.io ngrok.app ngrok-free.app nip.io no-ip.org onrender.com pages.dev readthedocs.io
    run.app sslip.io trafficmanager.net trycloudflare.com ts.net vercel.app web.app windows.net workers.dev
""")


def is_top(name: str) -> bool:
    """Say whether a canonical name is a registry's: anybody can register below it.

    Every internationalised single label is taken for one.
    """
    head, dot, country = name.rpartition(".")
    if not dot:
        return name in _GENERIC or name in _COUNTRIES or name.startswith("xn--")
    return country in _COUNTRIES and head in _SECOND


def is_public(name: str) -> bool:
    """Say whether anybody can have a name below this one: a registry's, or a provider's for its customers."""
    return is_top(name) or name in _HOSTED
