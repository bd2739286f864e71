# What debootstrap does for the suite, with some of its functions replaced.
imgbuild=$IMGBUILD_PROGRAM
unset IMGBUILD_PROGRAM

SCRIPT=$DEBOOTSTRAP_DIR/scripts/$SUITE
[ -z "$VARIANT" ] || [ ! -e "$SCRIPT.$VARIANT" ] || SCRIPT=$SCRIPT.$VARIANT
[ -e "$SCRIPT" ] || error 1 NOSCRIPT "No such script: %s" "$SCRIPT"
. "$SCRIPT"

# extract PACKAGE...: writes their files into the target.
extract () {
	local debs deb why
	debs=$(debfor "$@")
	case " $EXTRACT_DEB_TAR_OPTIONS " in
	*" -k "*)
		info EXTRACTING "Extracting %s packages..." "$#"
		why=$("$imgbuild" unpack-packages files "$TARGET" $debs 2>&1) ||
			error 1 FILEEXIST "%s" "$why"
		;;
	*)
		# A suite in which one package may overwrite what another has.
		for deb in $debs; do
			(cd "$TARGET" && extract_deb_data "./$deb")
		done
		;;
	esac
}

# in_target COMMAND...: runs it in the target. Of a core package that dpkg installs, only its
# configuration is left; dpkg itself has a makeshift entry in its database until it is installed.
in_target () {
	local package
	case "$*" in
	"dpkg --force-depends --install "*/dpkg_*) ;;
	"dpkg --force-depends --install "*.deb)
		if [ $# -eq 4 ] && [ -z "$(enter "$4")" ]; then
			package=${4##*/}
			set -- dpkg --force-depends --configure "${package%%_*}"
		fi
		;;
	esac
	in_target_failmsg IN_TARGET_FAIL "Failure trying to run: %s" "$CHROOT_CMD $*" "$@"
}

# enter DEB...: enters packages into dpkg's database as unpacked; says which are left to dpkg.
enter () {
	"$imgbuild" unpack-packages database "$TARGET" "$@" < /dev/null || echo "$@"
}

# repeatn N COMMAND...: runs it until it succeeds, at most N times. Where it is dpkg that
# unpacks the required packages, dpkg gets only those that were not simple enough.
repeatn () {
	local times word words debs left
	times=$1
	shift
	if [ "$2" = UNPACK_REQ_FAIL_FIVE ]; then
		words=$#
		debs=
		while [ "$words" -gt 0 ]; do
			word=$1
			shift
			case $word in
			/*.deb) debs="$debs $word" ;;
			*) set -- "$@" "$word" ;;
			esac
			words=$((words - 1))
		done
		left=$(enter $debs)
		[ -n "$left" ] || return 0
		set -- "$@" $left
	fi
	while ! "$@"; do
		times=$((times - 1))
		[ "$times" -gt 0 ] || return 1
		sleep 1
	done
}
