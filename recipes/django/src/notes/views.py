from django.http import FileResponse, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_http_methods, require_safe

from . import __version__
from .models import Note


@require_safe
def version(request):
    return HttpResponse(__version__, content_type="text/plain")


@require_http_methods(["GET", "POST"])
def notes(request):
    """All notes as a page; a new one, with an attachment or without, by POST."""
    if request.method == "POST":
        note = Note.objects.create(text=request.POST["text"], attachment=request.FILES.get("attachment", ""))
        return JsonResponse({"number": note.pk}, status=201)
    return render(request, "notes.html", {"notes": Note.objects.all()})


@require_safe
def attachment(request, number):
    return FileResponse(get_object_or_404(Note, pk=number).attachment)
