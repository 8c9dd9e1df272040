# To be sourced: `stage NAME [MEMBERS]` reports a stage of the boot to the host. MEMBERS are JSON
# members with a leading comma. Silent where the port is missing: the machine then has no listener.
stage() {
    for name in /sys/class/virtio-ports/*/name; do
        [ -r "$name" ] || continue
        read -r port <"$name" || continue
        [ "$port" = org.rave.ready ] || continue
        device=${name%/name}
        device=/dev/${device##*/}
        [ -e /dev/virtio-ports/org.rave.ready ] || ln -s "$device" /dev/virtio-ports/org.rave.ready
        read -r instance_id </run/rave/instance-id || instance_id=""
        read -r boot_id </proc/sys/kernel/random/boot_id
        read -r uptime _ </proc/uptime
        printf '{"v":1,"instance":"%s","boot":"%s","stage":"%s","uptime":%s%s}\n' "$instance_id" "$boot_id" "$1" "$uptime" "${2-}" >"$device"
        return
    done
}
