# SPDX-License-Identifier: Apache-2.0
"""What a guest of the laboratory is made of. The images are cached under a hash of this file and of image.py: changing
either rebuilds them."""

SUITE = "bookworm"

# Installed and configured, without recommended packages, on top of Debian's minimal set.
PACKAGES = (
    "systemd-sysv", "udev", "dbus", "kmod", "procps", "psmisc", "busybox-static",
    "open-iscsi", "multipath-tools", "targetcli-fb", "python3-rtslib-fb",
    "lvm2", "dmsetup", "sg3-utils", "lsscsi", "fdisk", "parted",
    "xfsprogs", "e2fsprogs", "btrfs-progs", "fio", "nbd-client", "iproute2", "nftables",
    # what our own binary is linked with
    "libisal2", "liburing2", "libfmt9", "libssl3", "libsystemd0", "libstdc++6",
)

# name -> suite whose linux-image-amd64 it is
KERNELS = {"6.1": SUITE, "6.12": f"{SUITE}-backports"}

# Folders of a kernel's modules that go into the guest; the modules these depend on follow by themselves.
MODULES = (
    "arch/", "crypto/", "lib/", "block/", "fs/",
    "drivers/block/", "drivers/char/", "drivers/md/", "drivers/scsi/", "drivers/target/", "drivers/virtio/",
    "drivers/net/virtio_net", "drivers/net/net_failover", "drivers/net/dummy", "drivers/net/veth", "drivers/net/tun",
    "net/core/", "net/ipv4/", "net/netfilter/", "net/nf", "net/sched/", "net/packet/",
)
# ... and what of these is no use here.
NO_MODULES = ("drivers/scsi/aic", "drivers/scsi/mpt", "drivers/scsi/qla2", "drivers/scsi/lpfc", "drivers/scsi/bfa",
              "drivers/scsi/megaraid", "drivers/scsi/be2iscsi", "drivers/scsi/pm8001", "drivers/scsi/cxgbi",
              "drivers/scsi/bnx", "drivers/scsi/smartpqi", "drivers/char/drm", "fs/ocfs2", "fs/gfs2", "fs/ceph",
              "fs/cifs", "fs/smb", "fs/nfs", "fs/afs")

# Inserted in the initial RAM disk, in the order their dependencies ask for.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")

IMAGE_SIZE = 2 << 30
