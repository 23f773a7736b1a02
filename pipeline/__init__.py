"""The live path: sources, prepare, mailboxes, the runner, sinks."""

# Before anything of the path imports PyAV: whichever comes second gets the first one's X11 libraries, and
# OpenCV's windows hang with PyAV's (PyAV issue 1050, OpenCV issue 29195).
import cv2 as cv2
